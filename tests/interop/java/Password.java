import java.net.Authenticator;
import java.net.HttpURLConnection;
import java.net.PasswordAuthentication;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

/** Both HTTP clients of Java: each sends a password only when it is asked for one. */
public class Password {
    public static void main(String[] arguments) throws Exception {
        var uri = URI.create(System.getenv("CONTACTS"));
        var token = System.getenv("TOKEN").toCharArray();
        var authenticator = new Authenticator() {
            @Override
            protected PasswordAuthentication getPasswordAuthentication() {
                return new PasswordAuthentication("agent", token);
            }
        };
        Authenticator.setDefault(authenticator);
        var connection = (HttpURLConnection) uri.toURL().openConnection();
        System.out.println(connection.getResponseCode() + " " + new String(connection.getInputStream().readAllBytes()));

        var client = HttpClient.newBuilder().authenticator(authenticator).build();
        var answer = client.send(HttpRequest.newBuilder(uri).build(), BodyHandlers.ofString());
        System.out.println(answer.statusCode() + " " + answer.body());
    }
}
